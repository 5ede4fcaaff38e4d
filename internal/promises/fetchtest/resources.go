package fetchtest

import (
	"os"
	"runtime"
	"testing"
	"time"
)

// Allocated returns how much memory f asks for.
func Allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Resources are counts that must not grow.
type Resources struct {
	goroutines, descriptors int
}

// ResourcesInUse returns the counts of the process.
func ResourcesInUse() Resources { return Resources{runtime.NumGoroutine(), descriptors()} }

// descriptors returns how many file descriptors are open, where that is known.
func descriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

// Check fails the test if a count is greater than before for 2 s. It checks nothing if
// before is zero.
func (before Resources) Check(t *testing.T) {
	t.Helper()
	if before == (Resources{}) {
		return
	}
	for wait := time.Millisecond; ; wait *= 2 {
		goroutines, open := runtime.NumGoroutine(), descriptors()
		if goroutines <= before.goroutines && open <= before.descriptors {
			return
		}
		if wait > time.Second {
			buf := make([]byte, 1<<20)
			t.Errorf("%d goroutines were %d before, %d descriptors were %d:\n%s",
				goroutines, before.goroutines, open, before.descriptors, buf[:runtime.Stack(buf, true)])
			return
		}
		time.Sleep(wait)
	}
}

// LiveHeap returns how many bytes of the heap are in use after a collection.
func LiveHeap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
