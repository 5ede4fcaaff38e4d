// Package cancel holds the promises about the end of a context and of a timeout:
// a call returns at once, keeps what is done, and leaves nothing running.
package cancel
