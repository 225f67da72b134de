package limit

import (
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/time/rate"
)

func TestDenied(t *testing.T) {
	node := map[netip.Addr]bool{netip.MustParseAddr("10.0.0.254"): true, netip.MustParseAddr("fd00::254"): true}
	for text, why := range map[string]string{
		"10.0.0.1": "", "192.168.1.1": "", "8.8.8.8": "", "fd00::1": "", "2001:db8::1": "", "::ffff:10.0.0.1": "",
		"0.0.0.0": "unspecified", "0.1.2.3": "unspecified", "::": "unspecified",
		"127.0.0.1": "loopback", "127.255.0.9": "loopback", "::1": "loopback", "::ffff:127.0.0.1": "loopback",
		"169.254.169.254": "link-local", "::ffff:169.254.169.254": "link-local",
		"fe80::1": "link-local", "febf::1": "link-local", "fe80::1%eth0": "link-local",
		"224.0.0.1": "multicast", "239.1.1.1": "multicast", "ff02::1": "multicast", "255.255.255.255": "broadcast",
		"10.0.0.254": "node", "::ffff:10.0.0.254": "node", "fd00::254": "node",
		"100.100.100.200": "metadata", "fd00:ec2::254": "metadata",
		"64:ff9b::a9fe:a9fe": "link-local in another form", "64:ff9b::808:808": "",
		"2002:7f00:1::1": "loopback in another form", "::169.254.169.254": "link-local in another form",
		"64:ff9b::a00:fe": "node in another form",
	} {
		got := Denied(netip.MustParseAddr(text), node)
		if why == "" && got != "" || !strings.Contains(got, strings.TrimSuffix(why, " in another form")) ||
			strings.HasSuffix(why, "another form") != strings.HasSuffix(got, "another form") {
			t.Errorf("%s: %q, want %q", text, got, why)
		}
	}
}

func TestQuota(t *testing.T) {
	q := NewQuota()
	q.burst, q.most, q.rate = 3, 2, rate.Limit(0.001)
	take := func(uid, want string) {
		t.Helper()
		err := q.Take(uid)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("take %s: %v, want %q", uid, err, want)
		}
	}
	take("a", "")
	take("a", "")
	take("a", "2 dials of this workload are outstanding")
	take("b", "") // another pod has its own share
	q.Give("a")
	take("a", "")
	q.Give("a")
	take("a", "dials a second")
	q.Forget(func(string) bool { return false })
	if len(q.pods) != 2 {
		t.Errorf("a share with outstanding dials was forgotten: %v", q.pods)
	}
	q.Give("a")
	q.Forget(func(uid string) bool { return uid == "b" })
	if len(q.pods) != 1 || q.pods["b"] == nil {
		t.Errorf("not forgotten: %v", q.pods)
	}
}
