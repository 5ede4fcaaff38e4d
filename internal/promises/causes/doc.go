// Package causes holds the promises about errors: they say how a URL failed and leave the
// cause to be found, show nothing that a server or a URL has kept secret, and tell what
// another attempt can mend from what it cannot.
package causes
