package export

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestExport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var x Export
		if x.Deaf() || x.Answers(1) {
			t.Error("something is known of a provider that was not asked")
		}
		x.Unknown()
		if !x.Deaf() || x.Answers(1) {
			t.Error("a provider that does not know the interface is asked again at once")
		}
		time.Sleep(deafFor)
		if x.Deaf() {
			t.Error("it is never asked again")
		}
		x.Unknown()
		x.Answered(3)
		if x.Deaf() || !x.Answers(3) || x.Answers(4) {
			t.Error("an answer holds for the connection that it came on, and at once")
		}
	})
}
