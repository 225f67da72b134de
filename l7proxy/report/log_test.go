package report

import (
	"testing"
	"time"
)

func TestExpression(t *testing.T) {
	f := &Facts{Code: 503, Duration: 1500 * time.Microsecond, Flags: "UF,DI", Cluster: "c", Route: "r", Holds: 0b10}
	always, never := Expression{Kind: Always}, Expression{Kind: Not, Of: []Expression{{Kind: Always}}}
	tests := []struct {
		name string
		e    Expression
		want bool
	}{
		{"always", always, true},
		{"never", never, false},
		{"and of nothing", Expression{Kind: And}, true},
		{"or of nothing", Expression{Kind: Or}, false},
		{"and", Expression{Kind: And, Of: []Expression{always, never}}, false},
		{"or", Expression{Kind: Or, Of: []Expression{never, always}}, true},
		{"a code", Expression{Kind: Code, Min: 503, Max: 503}, true},
		{"another code", Expression{Kind: Code, Min: 504, Max: 599}, false},
		{"milliseconds are whole", Expression{Kind: Millis, Min: 1, Max: 1}, true},
		{"a flag", Expression{Kind: Flag, Texts: []string{"NR", "DI"}}, true},
		{"part of a flag", Expression{Kind: Flag, Texts: []string{"U"}}, false},
		{"any flag", Expression{Kind: Flag}, true},
		{"a cluster", Expression{Kind: Cluster, Texts: []string{"c"}}, true},
		{"another route", Expression{Kind: Route, Texts: []string{"c"}}, false},
		{"a condition", Expression{Kind: Holds, Min: 1}, true},
		{"another condition", Expression{Kind: Holds, Min: 0}, false},
	}
	for _, test := range tests {
		if got := test.e.Holds(f); got != test.want {
			t.Errorf("%s is %v", test.name, got)
		}
	}
	none := Expression{Kind: Flag}
	if none.Holds(&Facts{Flags: "-"}) {
		t.Error("no flag is a flag")
	}
}
