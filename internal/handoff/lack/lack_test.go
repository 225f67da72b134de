package lack

import "testing"

func TestAnswers(t *testing.T) {
	want := map[Lack]string{
		None:    "dubway: the way of shop/a\n",
		View:    "dubway: the way of shop/a lacks its view\n",
		Plane:   "dubway: the way of shop/a lacks its plane\n",
		Table:   "dubway: the way of shop/a lacks its table\n",
		Refused: "dubway: the way of shop/a lacks its refused\n",
	}
	if len(All()) != len(want) {
		t.Errorf("%d answers, want %d", len(All()), len(want))
	}
	for _, l := range All() {
		answer := l.Answer("shop/a")
		if string(answer) != want[l] {
			t.Errorf("%q is told as %q: the other process may be of another release", l, answer)
		}
		if got, ok := Of("shop/a", answer); !ok || got != l {
			t.Errorf("%q is read as %q, %t", answer, got, ok)
		}
		if _, ok := Of("shop/b", answer); ok {
			t.Errorf("%q is taken for another pod's", answer)
		}
		if len(answer) > Longest("shop/a") {
			t.Errorf("%q is longer than the longest", answer)
		}
	}
	for _, text := range []string{"", "dubway: the way of shop/a", "dubway: the way of shop/a lacks its mind\n", want[None] + want[None]} {
		if l, ok := Of("shop/a", []byte(text)); ok {
			t.Errorf("%q is read as %q", text, l)
		}
	}
}
