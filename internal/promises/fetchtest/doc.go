// Package fetchtest has the helpers of the tests of the promises: transports and
// servers in memory, servers on loopback, counters, and checks that every Result
// and the end of every call must pass.
//
// The tests that use it do not run in parallel: [CheckNoLeaks] looks at all
// goroutines of the process.
package fetchtest
