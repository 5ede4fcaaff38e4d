// Package guard holds the promises about security: no connection to an address
// that is not public under WithPublicOnly, and no secret in an error.
package guard
