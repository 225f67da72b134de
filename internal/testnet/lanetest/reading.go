package lanetest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/dubway/dubway/agent/datapath/lane/lanetest"
)

// read compares what comes.
func (c *calling) read() error {
	r := lanetest.NewReader(c.conn)
	var scratch []byte
	defer func() { // whoever waits for room is to see that there is no connection
		c.conn.Close()
		for {
			select {
			case <-c.room:
			default:
				return
			}
		}
	}()
	for {
		frame, err := r.Next()
		if err != nil {
			return err
		}
		if frame == nil {
			if err := r.More(); err != nil {
				return err
			}
			continue
		}
		if err := c.take(frame, &scratch); err != nil {
			return err
		}
	}
}

var errUnasked = errors.New("an answer to no call, or the second")

func (c *calling) take(frame []byte, scratch *[]byte) error {
	id, flags := binary.BigEndian.Uint64(frame[4:]), frame[2]
	switch {
	case flags&flagRequest != 0 && flags&flagEvent != 0:
		return nil // who asks is alive
	case flags&flagRequest != 0:
		c.mu.Lock()
		c.result.Back++
		c.mu.Unlock()
		answer := answerBack(id, frame)
		go func() { // who reads must not wait for room to write
			c.writing.Lock()
			defer c.writing.Unlock()
			_, _ = c.conn.Write(answer) // the provider misses it
		}()
		return nil
	case flags&flagEvent != 0:
		c.beats.Add(-1)
		c.mu.Lock()
		c.result.Beats++
		c.mu.Unlock()
		return nil
	}
	c.mu.Lock()
	call := c.pending[id]
	delete(c.pending, id)
	c.heard = time.Now()
	c.mu.Unlock()
	if call == nil {
		return fmt.Errorf("%w: id %#x, %d bytes", errUnasked, id, len(frame))
	}
	if c.Tolerant && call.refused(frame) {
		c.mu.Lock()
		c.result.Refused++
		c.mu.Unlock()
		<-c.room
		return nil
	}
	by, err := call.match(frame, c.Providers, c.Most, scratch)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.result.Answered++
	c.result.By[by]++
	if c.Traces != "" {
		c.result.traces = append(c.result.traces, Trace{call.sent, time.Now().UnixNano(), by})
	}
	c.mu.Unlock()
	<-c.room
	return nil
}
