package ads

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dubway/dubway/l7proxy/xds"
)

// magic begins a file of the last good configuration; then come the sum of the rest and
// the rest: one DeltaDiscoveryResponse, whose system_version_info is for whom it is. The
// bytes are Envoy's own, so that what reads them is what reads the stream.
const magic = "dubway-xds-1\n"

// cache is the last good configuration on disk.
type cache struct {
	path  string
	owner string // the server and the node: another's view is none of ours
}

var errForeign = errors.New("it is of another server or of another node")

// load returns what was saved last; nothing if nothing was.
func (c *cache) load() ([]xds.Update, error) {
	text, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	rest, ok := bytes.CutPrefix(text, []byte(magic))
	if !ok || len(rest) < sha256.Size {
		return nil, errors.New("it is not a kept configuration, or of another release")
	}
	if sha256.Sum256(rest[sha256.Size:]) != [sha256.Size]byte(rest[:sha256.Size]) {
		return nil, errors.New("its sum is wrong: it was damaged")
	}
	m := new(discoveryv3.DeltaDiscoveryResponse)
	if err := proto.Unmarshal(rest[sha256.Size:], m); err != nil {
		return nil, fmt.Errorf("decode configuration: %w", err)
	}
	if m.GetSystemVersionInfo() != c.owner {
		return nil, errForeign
	}
	var all []xds.Update
	for _, r := range m.GetResources() {
		typ := r.GetResource().GetTypeUrl()
		if len(all) == 0 || all[len(all)-1].Type != typ {
			all = append(all, xds.Update{Type: typ})
		}
		last := &all[len(all)-1]
		last.Changed = append(last.Changed, resource(r))
	}
	return all, nil
}

// save replaces the file in one rename: it is a whole one at any time. It has one resource
// in memory after the other: together they may be large.
func (c *cache) save(all iter.Seq2[string, xds.Resource]) error {
	temporary := c.path + ".new"
	if err := os.MkdirAll(filepath.Dir(c.path), 0o750); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	f, err := os.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("create configuration: %w", err)
	}
	err = c.write(f, all)
	if closed := f.Close(); err == nil && closed != nil {
		err = fmt.Errorf("close configuration: %w", closed)
	}
	if err != nil {
		return err
	}
	if err := os.Rename(temporary, c.path); err != nil {
		return fmt.Errorf("replace configuration: %w", err)
	}
	return nil
}

// write writes the file. Messages that follow each other are one: each part of ours is the
// DeltaDiscoveryResponse of one resource.
func (c *cache) write(f *os.File, all iter.Seq2[string, xds.Resource]) error {
	sum := sha256.New()
	out := bufio.NewWriter(f)
	head := append([]byte(magic), make([]byte, sha256.Size)...)
	_, _ = out.Write(head) // what fails Flush tells
	part := func(m *discoveryv3.DeltaDiscoveryResponse) error {
		body, err := proto.Marshal(m)
		if err != nil {
			return fmt.Errorf("encode configuration: %w", err)
		}
		_, _ = sum.Write(body) // a sum takes everything
		_, _ = out.Write(body)
		return nil
	}
	if err := part(&discoveryv3.DeltaDiscoveryResponse{SystemVersionInfo: c.owner}); err != nil {
		return err
	}
	for _, r := range all {
		one := &discoveryv3.Resource{Name: r.Name, Version: r.Version, Resource: r.Body}
		if err := part(&discoveryv3.DeltaDiscoveryResponse{Resources: []*discoveryv3.Resource{one}}); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	if _, err := f.WriteAt(sum.Sum(nil), int64(len(magic))); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

// resource is what a message says of one resource.
func resource(r *discoveryv3.Resource) xds.Resource {
	body := r.GetResource()
	if body == nil {
		body = new(anypb.Any)
	}
	return xds.Resource{Name: r.GetName(), Version: r.GetVersion(), Body: body}
}
