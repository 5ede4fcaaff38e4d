// Package neighbours holds the promises about URLs of one host that share connections:
// bytes that a server sends behind one answer are not the answer to another.
package neighbours
