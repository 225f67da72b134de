package verdict

import (
	"math"

	"github.com/dubway/dubway/l7proxy/router"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// match finds the route, if it is one for all requests of these names.
func (c *Case) match() Reason {
	var asked unread
	req := rpc.Request{
		Protocol: c.Protocol.Name, Interface: c.Prefix.Path, Method: c.Prefix.Method, Version: c.Prefix.Version,
		Authority: c.Original.String(), Attachments: &asked, Arguments: &asked,
	}
	// The smaller the number, the more of the routes take it that take a fraction.
	c.route = router.Match(c.Listener.Route, &req, 0)
	least := router.Match(c.Listener.Route, &req, math.MaxUint64)
	switch {
	case bool(asked):
		return ByBody
	case c.route != least:
		return ByChance
	case c.route == nil:
		return NoRoute
	}
	return Lane
}

// unread is the body of a request which nobody has read: it becomes true when it is asked
// for anything. The choice of a route that does not ask is that of all requests of the names.
type unread bool

var (
	_ rpc.Attachments = (*unread)(nil)
	_ rpc.Arguments   = (*unread)(nil)
)

// Lookup is part of rpc.Attachments.
func (u *unread) Lookup(string) (value string, ok bool, err error) {
	*u = true
	return "", false, nil
}

// Spelling is part of rpc.Attachments.
func (u *unread) Spelling(string, int) (value string, ok bool, err error) {
	*u = true
	return "", false, nil
}

// Argument is part of rpc.Arguments.
func (u *unread) Argument(int) (text string, ok bool, err error) {
	*u = true
	return "", false, nil
}
