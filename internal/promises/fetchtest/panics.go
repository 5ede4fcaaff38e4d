package fetchtest

// Recovered runs f on a goroutine of its own and returns the value of its panic,
// and whether it returned or panicked, rather than ended with Goexit.
func Recovered(f func()) (value any, ended bool) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if value = recover(); value != nil {
				ended = true
			}
		}()
		f()
		ended = true
	}()
	<-done
	return value, ended
}
