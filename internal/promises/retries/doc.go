// Package retries holds the promises about retries: what is tried again, when,
// how often, and what of it a Result shows.
package retries
