package retry

// A budget counts in fifths of a retry, the smallest amount that it is changed
// by, so that no rounding adds up.
const (
	fifths  = 5
	initial = 10 * fifths
	most    = 100 * fifths
)

// A Budget holds the retries that a host has left, so that a host which fails
// every request is not sent several times as many. It starts at 10,
// grows by a fifth with each first attempt and by one with each success, up to
// 100, and each retry takes one.
//
// The zero value is a budget at its start. A Budget must not be used by
// several goroutines at the same time.
type Budget struct {
	gained int32 // fifths above the initial amount; negative below it
}

// First adds a fifth, for the first attempt of a URL.
func (b *Budget) First() { b.add(1) }

// Success adds one, for an attempt that succeeded.
func (b *Budget) Success() { b.add(fifths) }

// Retry takes one for a retry and reports whether it was there. If it was not,
// the budget is unchanged.
func (b *Budget) Retry() bool {
	if initial+b.gained < fifths {
		return false
	}
	b.gained -= fifths
	return true
}

// Unspent reports whether no less is left than at the start. Such a budget can
// be forgotten: beginning again with a zero Budget gives the host nothing that
// it has used up.
func (b *Budget) Unspent() bool { return b.gained >= 0 }

func (b *Budget) add(n int32) { b.gained = min(b.gained+n, most-initial) }
