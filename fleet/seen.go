package fleet

import (
	"crypto/sha256"
	"iter"
	"sync"
	"time"

	"github.com/batchhttp/fetch/internal/target"
)

// A fingerprint tells URLs apart. It is one that strangers cannot make collide: a URL
// that is taken for another would never be fetched.
type fingerprint [16]byte

func fingerprintOf(rawURL string) fingerprint {
	sum := sha256.Sum256([]byte(target.Distinct(rawURL)))
	return fingerprint(sum[:16])
}

// A seenSet has the URLs of a host that wait or were done within the window, and
// some that are older.
type seenSet struct {
	window time.Duration
	// waiting yields those that wait, however long. It is called by add.
	waiting iter.Seq[fingerprint]

	mu          sync.Mutex // guards the fields below
	young, aged map[fingerprint]struct{}
	turned      time.Time // when young was empty
}

func newSeenSet(window time.Duration, now time.Time, waiting iter.Seq[fingerprint]) *seenSet {
	return &seenSet{window: window, waiting: waiting, young: map[fingerprint]struct{}{}, turned: now}
}

// add reports whether the URL is new, and notes it.
func (s *seenSet) add(f fingerprint, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turnLocked(now)
	_, young := s.young[f]
	_, aged := s.aged[f]
	if young || aged {
		return false
	}
	s.young[f] = struct{}{}
	return true
}

// turnLocked forgets those that are older than the window, after another.
func (s *seenSet) turnLocked(now time.Time) {
	passed := now.Sub(s.turned)
	if passed <= s.window {
		return
	}
	if s.aged = s.young; passed > 2*s.window {
		s.aged = nil
	}
	s.young, s.turned = map[fingerprint]struct{}{}, now
	for f := range s.waiting {
		s.young[f] = struct{}{}
	}
}

// done notes URLs from now on.
func (s *seenSet) done(all []fingerprint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range all {
		s.young[f] = struct{}{}
	}
}

// read adds those of a text that encodeFingerprints made.
func (s *seenSet) read(text []byte, now time.Time) {
	for len(text) >= len(fingerprint{}) {
		s.add(fingerprint(text), now)
		text = text[len(fingerprint{}):]
	}
}

func encodeFingerprints(all []fingerprint) []byte {
	text := make([]byte, 0, len(all)*len(fingerprint{}))
	for _, f := range all {
		text = append(text, f[:]...)
	}
	return text
}
