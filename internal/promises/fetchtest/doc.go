// Package fetchtest has what the tests of the promises share: transports and
// servers in memory, servers on loopback, counters, and checks of what is true
// of every Result and after every call.
//
// The tests that use it do not run in parallel: [CheckNoLeaks] looks at all
// goroutines of the process.
package fetchtest
