package identity

import "testing"

func TestParse(t *testing.T) {
	const uri = "spiffe://cluster.local/ns/shop/sa/consumer"
	id, err := Parse(uri)
	if want := (ID{"cluster.local", Account{"shop", "consumer"}}); err != nil || id != want {
		t.Fatalf("%+v, %v", id, err)
	}
	if id.String() != uri {
		t.Error(id)
	}
	for _, bad := range []string{
		"", "spiffe://", "spiffe:///ns/shop/sa/consumer", "https://cluster.local/ns/shop/sa/consumer",
		"spiffe://cluster.local/ns//sa/consumer", "spiffe://cluster.local/ns/shop/sa/",
		"spiffe://cluster.local/ns/shop/sa/a/b", "spiffe://u@cluster.local/ns/shop/sa/a", "spiffe://cluster.local/ns/shop/sa/a?b", "spiffe://cluster.local/ns/s%68op/sa/a",
	} {
		if id, err := Parse(bad); err == nil {
			t.Errorf("%s: %v", bad, id)
		}
	}
}
