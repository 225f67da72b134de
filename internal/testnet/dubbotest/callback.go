package dubbotest

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
)

// ListenerInterface is what a provider calls on its consumer.
const ListenerInterface = "org.dubway.test.Listener"

// CallbackAttachment declares the first argument as one that the provider may
// call back; its value is the instance's id.
const CallbackAttachment = "sys_callback_arg-0"

// appendCallback appends a provider's request to its consumer, which has no
// service version.
func appendCallback(b []byte, id uint64, argument []byte) []byte {
	start := len(b)
	b = appendHeader(b, flagRequest|flagTwoWay, 0, id)
	b = append(appendString(appendString(b, "2.0.2"), ListenerInterface), 'N')
	b = append(appendString(appendString(b, "on"), "[B"), argument...)
	b = append(b, 'H')
	for _, pair := range [][2]string{{"callback.service.instid", "1"}, {"path", ListenerInterface}} {
		b = appendString(appendString(b, pair[0]), pair[1])
	}
	return seal(append(b, 'Z'), start)
}

// OnCall makes the client answer its provider's calls with what f makes of their
// data. Without it they get no answer. F must not wait.
func (c *Client) OnCall(f func(data []byte) []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onCall = f
}

// called answers one request of the provider.
func (c *Client) called(h header, body []byte) error {
	ask, err := parseRequest(body)
	if err != nil {
		return err
	}
	c.mu.Lock()
	f := c.onCall
	c.mu.Unlock()
	if f == nil {
		return nil
	}
	answer := f(data(ask.argument))
	if !h.twoWay() {
		return nil
	}
	b := appendBytes(append(appendHeader(nil, 0, StatusOK, h.id), 0x94), answer)
	if _, err := c.conn.Write(seal(append(b, 'H', 'Z'), 0)); err != nil {
		return fmt.Errorf("answer call: %w", err)
	}
	return nil
}

// subscribe remembers a connection for notify.
func (p *Provider) subscribe(s *served) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.subscribers = append(p.subscribers, s)
}

// ended forgets a connection; what its consumer has not answered has failed.
func (p *Provider) ended(s *served) {
	s.mu.Lock()
	p.callbacksFailed.Add(int64(len(s.waiting)))
	s.waiting = nil
	s.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.subscribers = slices.DeleteFunc(p.subscribers, func(other *served) bool { return other == s })
}

// notify calls every subscriber back, the method's number of times.
func (p *Provider) notify(method string, argument []byte) {
	times, err := strconv.Atoi(method)
	if err != nil {
		times = 1
	}
	p.mu.Lock()
	subscribers := slices.Clone(p.subscribers)
	p.mu.Unlock()
	argument = bytes.Clone(argument)
	for _, s := range subscribers {
		go s.callBack(argument, times)
	}
}

// callBack calls the consumer. The ids begin at 0 on each connection, so that
// they are those of other requests as well.
func (s *served) callBack(argument []byte, times int) {
	for range times {
		s.mu.Lock()
		if s.waiting == nil {
			s.waiting = map[uint64][]byte{}
		}
		s.waiting[s.next] = argument
		s.out = appendCallback(s.out, s.next, argument)
		s.next++
		s.mu.Unlock()
		_ = s.flush() // the loop sees a broken connection too
	}
}

// answered takes the consumer's answer to a callback.
func (s *served) answered(h header, body []byte) error {
	s.mu.Lock()
	argument, ok := s.waiting[h.id]
	delete(s.waiting, h.id)
	s.mu.Unlock()
	if !ok {
		return fmt.Errorf("read answer: callback %d is not awaited", h.id)
	}
	answer, err := parseAnswer(h, body)
	if err != nil {
		return err
	}
	if answer.Status != StatusOK || !bytes.Equal(answer.Value, data(argument)) {
		s.provider.callbacksFailed.Add(1)
		return nil
	}
	s.provider.callbacks.Add(1)
	return nil
}
