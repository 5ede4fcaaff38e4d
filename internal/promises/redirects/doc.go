// Package redirects holds the promises about redirects: they are followed as
// net/http does it, within a limit, and nothing that the caller meant for one
// origin gets to another.
package redirects
