package mode

import (
	"fmt"
	"strings"
	"testing"
)

// labelled is a workload with a label, or without if that is "".
func labelled(uid, who, label string) *Workload {
	w := &Workload{UID: uid}
	w.Namespace, w.Name, _ = strings.Cut(who, "/")
	if label != "" {
		w.Labels = map[string]string{Key: label, "app": "x"}
	}
	return w
}

// TestAnnotation: a workload's annotation goes before its label, whatever they say, and
// an operator before both.
func TestAnnotation(t *testing.T) {
	const enforce, observe, off = "enforce", "observe", "off"
	for _, tt := range []struct {
		annotation, label, said string
		want                    Mode
		by                      string
		fails                   bool
	}{
		{"", "", "", Enforce, "", false},
		{observe, "", "", Observe, "annotation dubway.io/mode", false},
		{observe, off, "", Observe, "annotation dubway.io/mode", false},
		{enforce, off, "", Enforce, "annotation dubway.io/mode", false},
		{"", off, "", Off, "label dubway.io/mode", false},
		{"of", off, "", Enforce, "", true},
		{observe, off, enforce, Enforce, "dubwayctl mode shop/web", false},
	} {
		var table Table
		w := labelled("1", "shop/web", tt.label)
		if tt.annotation != "" {
			w.Annotations = map[string]string{Key: tt.annotation}
		}
		err := table.Put(w)
		if tt.said != "" {
			if _, err := table.Say("shop/web", tt.said); err != nil {
				t.Fatal(err)
			}
		}
		if got := table.All()[0]; got.Mode != tt.want || got.By != tt.by || table.Of("1").Mode() != tt.want || (err != nil) != tt.fails {
			t.Errorf("annotation %q, label %q, said %q: %+v, %v", tt.annotation, tt.label, tt.said, got, err)
		}
	}
}

func TestTable(t *testing.T) {
	var table Table
	put := func(uid, name, label string) {
		t.Helper()
		if err := table.Put(labelled(uid, "shop/"+name, label)); err != nil {
			t.Error(err)
		}
	}
	put("1", "web", "")
	put("2", "orders", "observe")
	web, orders := table.Of("1"), table.Of("2")
	steps := []struct {
		who, word string
		uids      string
		want      string // of web and orders
	}{
		{"shop/web", "off", "[1]", "off observe"},
		{"shop/*", "enforce", "[1 2]", "off enforce"},
		{"shop/web", Default, "[1]", "enforce enforce"},
		{"other/*", "off", "[]", "enforce enforce"},
		{"shop/*", Default, "[1 2]", "enforce observe"},
	}
	for _, s := range steps {
		uids, err := table.Say(s.who, s.word)
		if got := fmt.Sprint(web.Mode(), " ", orders.Mode()); err != nil || fmt.Sprint(uids) != s.uids || got != s.want {
			t.Errorf("%s %s: %v %q, %v; want %s %q", s.who, s.word, uids, got, err, s.uids, s.want)
		}
	}
	put("1", "web", "off")
	if web.Mode() != Off {
		t.Error("a changed label changes nothing")
	}
	if err := table.Put(labelled("2", "shop/orders", "of")); err == nil || orders.Mode() != Enforce {
		t.Errorf("a label that is no mode: %v, %v", orders.Mode(), err)
	}
	if _, err := table.Say("other/late", "observe"); err != nil {
		t.Error(err)
	}
	if err := table.Put(labelled("3", "other/late", "")); err != nil || table.Of("3").Mode() != Observe {
		t.Errorf("said before it came: %v, %v", table.Of("3").Mode(), err)
	}
	var by []string
	for _, e := range table.All() {
		by = append(by, e.Namespace+"/"+e.Name+" "+e.By)
	}
	if got := strings.Join(by, ", "); got != "other/late dubwayctl mode other/late, shop/orders , shop/web label dubway.io/mode" {
		t.Error(got)
	}
	table.Forget("1")
	if table.Of("1") != nil || table.Of("1").Mode() != Enforce {
		t.Error("a workload that is gone has a mode")
	}
}

func TestRefused(t *testing.T) {
	var table Table
	for _, say := range [][2]string{{"web", "off"}, {"shop/", "off"}, {"/web", "off"}, {"shop/web", "of"}, {"shop/web", ""}} {
		if _, err := table.Say(say[0], say[1]); err == nil {
			t.Errorf("%q %q is taken", say[0], say[1])
		}
	}
	if (*Table)(nil).Of("1").Mode() != Enforce {
		t.Error("no table enforces nothing")
	}
}
