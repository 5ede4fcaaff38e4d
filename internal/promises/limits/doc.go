// Package limits holds the promises about limits: requests in flight and starts
// per second are never more than they allow, and a host that waits for them
// holds up no other.
package limits
