package kept

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"iter"
	"math/bits"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/dubway/dubway/l7proxy/xds"
)

const (
	// perPart is how many resources a part has at most, on average: what a change of one of
	// them writes.
	perPart = 512
	// maxResource bounds a resource, in bytes.
	maxResource = 64 << 20
)

// order is that in which types are taken: a resource comes before who refers to it, so that
// one that is read is whole.
var order = []string{xds.TypeCluster, xds.TypeEndpoint, xds.TypeListener, xds.TypeRoute, xds.TypeMetaRoute}

// A part's name is TYPE-SUM.part: where its type is in order, and the sum of what is in it.
// Two parts of one name hold the same, whoever made them.

// typeOf is the type of a part's resources; "" if it is no name of a part.
func typeOf(part string) string {
	at, rest, _ := strings.Cut(part, "-")
	n, err := strconv.Atoi(at)
	if err != nil || n < 0 || n >= len(order) || !strings.HasSuffix(rest, partSuffix) {
		return ""
	}
	return order[n]
}

// place is which part a resource is in, of those of a view.
type place struct {
	typ  string
	own  bool // apart from what other views have too
	part uint32
}

// cut is how the resources of a view are cut into parts.
type cut struct {
	counts map[string]int // of resources, by type
	sums   map[place][sha256.Size]byte
}

// cutting cuts resources into parts. What views have in common is cut in the same way for
// all of them.
func cutting(all iter.Seq[xds.Good]) *cut {
	c := &cut{counts: make(map[string]int), sums: make(map[place][sha256.Size]byte)}
	for g := range all {
		if !g.Own {
			c.counts[g.Type]++
		}
	}
	for g := range all {
		at := c.place(&g)
		// The order in which they are listed says nothing: neither may the sum depend on it.
		sum, carry := c.sums[at], 0
		one := sha256.Sum256(fmt.Appendf(nil, "%d %s %d %s %x", len(g.Name), g.Name, len(g.Version), g.Version, g.Sum))
		for i := range sum {
			carry += int(sum[i]) + int(one[i])
			sum[i] = byte(carry)
			carry >>= 8
		}
		c.sums[at] = sum
	}
	return c
}

func (c *cut) place(g *xds.Good) place {
	if g.Own {
		return place{g.Type, true, 0}
	}
	parts := 1 << bits.Len(uint(c.counts[g.Type]/perPart))
	h := fnv.New32a()
	_, _ = io.WriteString(h, g.Name) // a hash takes everything
	return place{g.Type, false, h.Sum32() & uint32(parts-1)}
}

func (c *cut) name(at place) string {
	sum := c.sums[at]
	for i, typ := range order {
		if typ == at.typ {
			return fmt.Sprintf("%d-%s%s", i, hex.EncodeToString(sum[:]), partSuffix)
		}
	}
	return ""
}

// names lists the names of the parts.
func (c *cut) names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for at := range c.sums {
			if !yield(c.name(at)) {
				return
			}
		}
	}
}

// write writes those parts that are not there, one after the other. The caller locks.
func (k *Keeper) write(c *cut, all iter.Seq[xds.Good]) error {
	missing := make(map[place][]xds.Good)
	for at := range c.sums {
		name := c.name(at)
		if _, err := os.Stat(filepath.Join(k.dir, name)); !k.sound[name] || err != nil {
			missing[at] = nil
		}
	}
	if len(missing) == 0 {
		return nil
	}
	for g := range all {
		at := c.place(&g)
		if list, ok := missing[at]; ok {
			missing[at] = append(list, g)
		}
	}
	for at, list := range missing {
		var text bytes.Buffer
		z, err := gzip.NewWriterLevel(&text, gzip.BestSpeed)
		if err != nil {
			return fmt.Errorf("compress configuration: %w", err)
		}
		for _, g := range list {
			body, err := proto.Marshal(&discoveryv3.Resource{Name: g.Name, Version: g.Version, Resource: g.Body()})
			if err != nil {
				return fmt.Errorf("encode configuration: %w", err)
			}
			_, _ = z.Write(binary.AppendUvarint(nil, uint64(len(body)))) // into memory
			_, _ = z.Write(body)
		}
		_ = z.Close()
		name := c.name(at)
		if err := k.put(name, text.Bytes()); err != nil {
			return err
		}
		k.sound[name] = true
	}
	return nil
}

// check tells whether a part can be read to its end.
func (k *Keeper) check(part string) error {
	for _, err := range k.each(part) {
		if err != nil {
			return err
		}
	}
	return nil
}

// resources lists those of parts that were checked.
func (k *Keeper) resources(parts []string) iter.Seq[xds.Resource] {
	return func(yield func(xds.Resource) bool) {
		for _, p := range parts {
			for r, err := range k.each(p) {
				if err != nil {
					return // it was removed this moment
				}
				if !yield(xds.Resource{Name: r.GetName(), Version: r.GetVersion(), Body: r.GetResource()}) {
					return
				}
			}
		}
	}
}

// each lists the resources of a part, at last an error if it is damaged.
func (k *Keeper) each(part string) iter.Seq2[*discoveryv3.Resource, error] {
	return func(yield func(*discoveryv3.Resource, error) bool) {
		f, err := os.Open(filepath.Join(k.dir, part))
		if err != nil {
			yield(nil, fmt.Errorf("read configuration: %w", err))
			return
		}
		defer f.Close()
		z, err := gzip.NewReader(bufio.NewReader(f))
		if err != nil {
			yield(nil, fmt.Errorf("part %s: %w", part, errSum))
			return
		}
		in := bufio.NewReader(z)
		for {
			r, err := resource(in)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				err = fmt.Errorf("part %s: %w", part, errSum)
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// resource reads one resource; io.EOF if there are no more.
func resource(in *bufio.Reader) (*discoveryv3.Resource, error) {
	size, err := binary.ReadUvarint(in)
	if errors.Is(err, io.EOF) {
		return nil, io.EOF
	}
	if err != nil || size > maxResource {
		return nil, errSum
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(in, body); err != nil {
		return nil, errSum
	}
	r := new(discoveryv3.Resource)
	if err := proto.Unmarshal(body, r); err != nil || r.GetResource() == nil {
		return nil, errSum
	}
	return r, nil
}
