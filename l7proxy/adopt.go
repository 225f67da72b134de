package l7proxy

import (
	"errors"
	"fmt"
	"os"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/downstream"
	"github.com/dubway/dubway/l7proxy/lane"
	"github.com/dubway/dubway/l7proxy/sock"
)

var _ handoff.Adopter = (*Proxy)(nil)

// Lane goes on with a lane of a proxy that is gone. One that cannot be gone on with ends, and
// its consumer's connection. Part of handoff.Adopter.
func (p *Proxy) Lane(l *handoff.Lane, files []*os.File) error {
	conns, err := connections(files)
	if err == nil {
		err = p.adopt(l, conns)
	}
	if err == nil {
		p.log.Info("lane taken over", "lane", l.Number, "uid", l.Workload, "consumer", l.Consumer)
		return nil
	}
	for _, c := range conns {
		if errors.Is(err, lane.ErrNotLeft) { // it may be in use here
			_ = c.Close()
		} else {
			_ = c.Reset()
		}
	}
	return err
}

func (p *Proxy) adopt(l *handoff.Lane, conns []*sock.Conn) error {
	if maps := p.lanes.Said().Maps; maps != l.Maps {
		return fmt.Errorf("adopt lane: it is in maps %d, not %d", l.Maps, maps)
	}
	left, err := p.riders.Inherit(l, conns)
	if err != nil {
		return fmt.Errorf("adopt lane: %w", err)
	}
	in := &downstream.Accepted{Conn: conns[0], Left: left}
	in.Original, in.Remote = l.Destination, l.Consumer
	if err = p.listeners.Adopt(l.Workload, in); err != nil {
		p.riders.Drop(left)
		return err
	}
	return nil
}

// connections takes sockets. What was taken before an error is returned too.
func connections(files []*os.File) (conns []*sock.Conn, err error) {
	for _, f := range files {
		c, one := sock.FromFile(f)
		if one != nil {
			err = errors.Join(err, one)
			continue
		}
		conns = append(conns, c)
	}
	return conns, err
}
