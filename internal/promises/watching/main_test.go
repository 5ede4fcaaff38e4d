package watching_test

import (
	"testing"

	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestMain(m *testing.M) { fetchtest.Main(m) }
