module github.com/batchhttp/fetch/har

go 1.26.0

require github.com/batchhttp/fetch v0.0.0

require (
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/time v0.16.0 // indirect
)

replace github.com/batchhttp/fetch => ..
