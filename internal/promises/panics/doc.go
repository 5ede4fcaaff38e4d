// Package panics holds the promises about a panic or a runtime.Goexit in code of
// the caller: a panic comes out where the call was made, an exit is an error of
// its URL, and neither harms another batch.
package panics
