package cluster

import (
	"errors"
	"testing"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// tagged makes four endpoints: 0 and 1 are v1, 2 is v2 in blue, 3 has no tags.
func tagged() []*snapshot.Endpoint {
	list := endpoints(0, 4)
	list[0].Metadata = snapshot.Metadata{"version": `"v1"`}
	list[1].Metadata = snapshot.Metadata{"version": `"v1"`, "extra": "1"}
	list[2].Metadata = snapshot.Metadata{"version": `"v2"`, "color": `"blue"`}
	return list
}

func TestSubsets(t *testing.T) {
	v1 := snapshot.Metadata{"version": `"v1"`}
	for _, tt := range []struct {
		name     string
		fallback snapshot.SubsetFallback
		want     snapshot.Metadata
		shares   []uint64 // of the four endpoints; nil: none
	}{
		{"one key", snapshot.FallbackNone, v1, []uint64{1, 1, 0, 0}},
		{"two keys", snapshot.FallbackNone, snapshot.Metadata{"version": `"v2"`, "color": `"blue"`}, []uint64{0, 0, 1, 0}},
		{"value of no endpoint", snapshot.FallbackNone, snapshot.Metadata{"version": `"v3"`}, nil},
		{"another type of value", snapshot.FallbackNone, snapshot.Metadata{"version": "v1"}, nil},
		{"keys of no selector", snapshot.FallbackNone, snapshot.Metadata{"color": `"blue"`}, nil},
		{"part of the keys", snapshot.FallbackNone, snapshot.Metadata{"version": `"v1"`, "extra": "1"}, nil},
		{"nothing asked", snapshot.FallbackNone, nil, nil},
		{"nothing asked, any", snapshot.FallbackAny, nil, []uint64{1, 1, 1, 1}},
		{"value of no endpoint, any", snapshot.FallbackAny, snapshot.Metadata{"version": `"v3"`}, []uint64{1, 1, 1, 1}},
		{"found, any", snapshot.FallbackAny, v1, []uint64{1, 1, 0, 0}},
		{"nothing asked, default", snapshot.FallbackDefault, nil, []uint64{0, 0, 1, 0}},
		{"keys of no selector, default", snapshot.FallbackDefault, snapshot.Metadata{"x": "1"}, []uint64{0, 0, 1, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := plain(tagged())
			c.Subsets = &snapshot.Subsets{
				Fallback: tt.fallback, Default: snapshot.Metadata{"color": `"blue"`},
				Selectors: [][]string{{"version"}, {"color", "version"}},
			}
			s := setOf(t, c)
			if tt.shares == nil {
				if e, err := s.Pick(Choice{Subset: tt.want}); !errors.Is(err, ErrNoEndpoint) {
					t.Fatalf("pick: %v, %v, want ErrNoEndpoint", e, err)
				}
				return
			}
			fits(t, counted(sample(t, s, 1000, Choice{Subset: tt.want}), 0, 1, 2, 3), tt.shares)
		})
	}
}

// A cluster without lb_subset_config does not honour metadata.
func TestNoSubsets(t *testing.T) {
	s := setOf(t, plain(tagged()))
	fits(t, counted(sample(t, s, 1000, Choice{Subset: snapshot.Metadata{"version": `"v3"`}}), 0, 1, 2, 3), []uint64{1, 1, 1, 1})
}

// A subset has its own health: its ill endpoints do not make the others panic.
func TestSubsetPriorities(t *testing.T) {
	first, second := tagged()[:2], endpoints(10, 1)
	second[0].Metadata = snapshot.Metadata{"version": `"v1"`}
	c := clusterOf(
		&snapshot.Locality{Endpoints: append(ill(first, 1), endpoints(20, 8)...)},
		&snapshot.Locality{Priority: 1, Endpoints: second},
	)
	c.Subsets = &snapshot.Subsets{Selectors: [][]string{{"version"}}}
	counts := sample(t, setOf(t, c), 10_000, Choice{Subset: snapshot.Metadata{"version": `"v1"`}})
	fits(t, counted(counts, 0, 1, 10, 20), []uint64{0, 70, 30, 0})
}

func TestCandidates(t *testing.T) {
	c := clusterOf(
		&snapshot.Locality{Endpoints: ill(tagged(), 1)},
		&snapshot.Locality{Priority: 2, Endpoints: endpoints(10, 1)},
	)
	got := Candidates(c, nil)
	if len(got) != 4 || got[0].Endpoint.Address != address(1) || got[0].Load != 100 || got[3].Priority != 2 || got[3].Load != 0 {
		t.Errorf("candidates are %+v", got)
	}
	c.Subsets = &snapshot.Subsets{Selectors: [][]string{{"version"}}}
	if got := Candidates(c, snapshot.Metadata{"version": `"v2"`}); len(got) != 1 || got[0].Endpoint.Address != address(2) {
		t.Errorf("candidates of v2 are %+v", got)
	}
	if got := Candidates(c, nil); got != nil {
		t.Errorf("candidates without a subset are %+v", got)
	}
}
