package fetchtest_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestMain(m *testing.M) { fetchtest.Main(m) }

// A check that sees nothing would pass everything.
func TestGoroutinesOfTheLibraryAreSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fetchtest.NewFetcher(t, fetchtest.Over(fetchtest.AnswerAfter(time.Second)))
		urls := fetchtest.Numbered("http://a.example", 1)
		var call sync.WaitGroup
		call.Go(func() { fetchtest.MustAllBeFine(t, urls, f.FetchAll(t.Context(), urls)) })
		synctest.Wait()
		if fetchtest.BubbleGoroutines() == "" {
			t.Error("a request is in flight, and no goroutine is seen")
		}
		call.Wait()
		synctest.Wait()
		if left := fetchtest.BubbleGoroutines(); left != "" {
			t.Errorf("goroutines are left:\n\n%s", left)
		}
	})
}

// A test may leave its own goroutines running for a while.
func TestGoroutinesOfTestsAreNotTakenForTheLibrarys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var waiting sync.WaitGroup
		waiting.Go(func() { time.Sleep(time.Second) })
		go func() { time.Sleep(time.Second) }()
		synctest.Wait()
		if seen := fetchtest.BubbleGoroutines(); seen != "" {
			t.Errorf("goroutines of this test are taken for the library's:\n\n%s", seen)
		}
		waiting.Wait()
	})
}
