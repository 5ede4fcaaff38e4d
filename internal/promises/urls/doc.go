// Package urls holds the promises about the text of a URL: the request that is sent for it,
// its host, and its user. Most of them are seen on raw sockets.
package urls
