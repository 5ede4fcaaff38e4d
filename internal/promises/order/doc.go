// Package order holds the promises about results: there is one for each URL, in
// its place, with its own error, whether the URLs come in a list or in a stream,
// and it has the answer of the server.
package order
