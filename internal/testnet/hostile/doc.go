// Package hostile holds the tests of a tenant that means harm: thousands of
// connections of one pod that break every rule of the protocol, while another
// pod works. They start the real agent and the real proxy, and assert that the
// other pod loses nothing and that the proxy's memory is bounded and comes back.
// They need root and a kernel from 5.10 on.
package hostile
