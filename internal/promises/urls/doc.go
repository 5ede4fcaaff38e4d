// Package urls holds the promises about the text of a URL: what is sent for it, to which host,
// and as whom. Most of them are seen on raw sockets.
package urls
