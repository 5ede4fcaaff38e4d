// Package codings holds the promises about content codings: a body is decoded, or its header
// says that it is not.
package codings
