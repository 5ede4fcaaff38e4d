// Package soundness holds the promises that are true of every batch, whatever
// fails in it, on a network that fails at each operation in turn and in batches
// made up at random.
package soundness
