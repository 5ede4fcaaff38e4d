// Package politeness holds the promises about servers that refuse: a host that
// answers 429, or 503 with Retry-After, gets the pause that it asked for, and
// then no more requests than it accepts.
package politeness
