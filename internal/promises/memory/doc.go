// Package memory holds the promises about memory: what a URL costs, and that
// neither long inputs nor hostile bodies fill it. It has the benchmarks of the
// library too.
package memory
