// Package promises checks that README.md beside it names a test for each
// promise, and that the links in the documents of the module lead somewhere.
// The packages below it hold the promises themselves.
package promises
