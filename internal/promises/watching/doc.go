// Package watching holds the promises about seeing a batch run: hooks, the Info of a request,
// RoundTrippers around the own client, and the options that keep the own client where others
// have to inject one.
package watching
