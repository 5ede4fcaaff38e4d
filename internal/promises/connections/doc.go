// Package connections holds the promises about connections: how many are open,
// that they are used again, what a dial or a handshake holds up, and what
// happens when descriptors or ports run out.
package connections
