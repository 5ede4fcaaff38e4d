// Package bodies holds the promises about the bodies of responses: they are whole
// or an error, never larger than the limit, and always closed.
package bodies
