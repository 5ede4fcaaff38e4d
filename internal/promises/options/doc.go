// Package options holds the promises about options: a bad one is an error before
// anything is sent, a good one does what it says, and the client that is given
// is left as it was.
package options
