package entry

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	tests := []struct {
		text, want string // want is part of the error, "" for none
		timeout    time.Duration
	}{
		{`{"type":"dubway-cni","socket":"/s","prevResult":{},"cniVersion":"1.0.0"}`, "", DefaultTimeout},
		{`{"mode":"open","socket":"/s","timeoutSeconds":3}`, "", 3 * time.Second},
		{`{"mode":"ajar","socket":"/s"}`, "mode", 0},
		{`{"mode":"open"}`, "socket", 0},
		{`{"socket":"s"}`, "absolute", 0},
		{`{"socket":"/s","timeoutSeconds":101}`, "timeoutSeconds", 0},
		{`{"socket":"/s","timeoutSeconds":-1}`, "timeoutSeconds", 0},
		{`{"socket":"/s","exempt":[""]}`, "exempt", 0},
		{`[]`, "parse", 0},
	}
	for _, test := range tests {
		e, err := Parse([]byte(test.text))
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.text, err, test.want)
		}
		if err == nil && e.Timeout() != test.timeout {
			t.Errorf("%s: timeout %s", test.text, e.Timeout())
		}
	}
}

// TestClosedByDefault is the promise that a forgotten field opens nothing.
func TestClosedByDefault(t *testing.T) {
	e, err := Parse([]byte(`{"socket":"/s"}`))
	if err != nil || e.Mode != Closed || e.Exempts("default") {
		t.Fatalf("%+v, %v", e, err)
	}
	text, err := json.Marshal(&Entry{Type: Type, Mode: Closed, Socket: "/s"})
	if err != nil || string(text) != `{"type":"dubway-cni","mode":"closed","socket":"/s"}` {
		t.Errorf("%s, %v", text, err)
	}
}
