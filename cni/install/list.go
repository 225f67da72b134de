package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/dubway/dubway/cni/entry"
)

// list is a conflist as text, and where its plugins are in it. Edits are cuts and
// insertions of that text: what we do not know keeps its bytes, its order and the digits
// of its numbers.
type list struct {
	text    []byte
	open    int // just behind the bracket of "plugins"
	plugins []element
}

// element is one of "plugins".
type element struct {
	start, end int
	kind       string // its "type"
}

// parseList reads a conflist, as libcni would: of two keys of a name the last counts.
func parseList(text []byte) (*list, error) {
	l := &list{text: text}
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.Join(errors.New("it is no JSON object"), err)
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("it is no JSON: %w", err)
		}
		if key != "plugins" {
			if err := d.Decode(new(json.RawMessage)); err != nil {
				return nil, fmt.Errorf("it is no JSON: %w", err)
			}
			continue
		}
		if err := l.readPlugins(d); err != nil {
			return nil, err
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("it is no JSON: %w", err)
	}
	if len(bytes.TrimLeft(text[d.InputOffset():], " \t\r\n")) > 0 {
		return nil, errors.New("something follows the JSON object")
	}
	if l.open == 0 {
		return nil, errors.New(`it has no list "plugins"`)
	}
	return l, nil
}

// readPlugins reads the value of "plugins", at which d is.
func (l *list) readPlugins(d *json.Decoder) error {
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return errors.Join(errors.New(`"plugins" is no list`), err)
	}
	l.open, l.plugins = int(d.InputOffset()), nil
	for d.More() {
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return fmt.Errorf("it is no JSON: %w", err)
		}
		end := int(d.InputOffset())
		start := end - len(raw)
		var head struct {
			Type string `json:"type"`
		}
		if err := json.Unmarshal(raw, &head); err != nil || head.Type == "" {
			return errors.Join(fmt.Errorf("plugin %d has no type", len(l.plugins)+1), err)
		}
		if !bytes.Equal(l.text[start:end], raw) {
			return errors.New("it cannot be edited: the places of its plugins are unclear")
		}
		l.plugins = append(l.plugins, element{start, end, head.Type})
	}
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("it is no JSON: %w", err)
	}
	return nil
}

// ours are the indices of our elements.
func (l *list) ours() []int {
	var found []int
	for i, p := range l.plugins {
		if p.kind == entry.Type {
			found = append(found, i)
		}
	}
	return found
}

// entry returns our element as it is, or nil if there is none that can be read.
func (l *list) entry() *entry.Entry {
	for _, i := range l.ours() {
		if e, err := entry.Parse(l.text[l.plugins[i].start:l.plugins[i].end]); err == nil {
			return e
		}
	}
	return nil
}

// usable tells why a runtime could not run the list with our plugin in it.
func (l *list) usable() error {
	var head struct {
		Name        *string  `json:"name"`
		CNIVersion  string   `json:"cniVersion"`
		CNIVersions []string `json:"cniVersions"`
	}
	if err := json.Unmarshal(l.text, &head); err != nil {
		return fmt.Errorf("it is no configuration: %w", err)
	}
	if head.Name == nil || *head.Name == "" {
		return errors.New("it has no name")
	}
	if len(l.plugins) == len(l.ours()) {
		return errors.New("it has no plugin that makes a network")
	}
	return checkVersions(head.CNIVersion, head.CNIVersions)
}

// checkVersions tells why our plugin could not be run: the runtime takes the newest of a
// list of versions, or the single one.
func checkVersions(version string, versions []string) error {
	ours, old := entry.Versions(), []string{"", "0.1.0", "0.2.0", "0.3.0"}
	spoken := func(v string) bool { return slices.Contains(ours, v) }
	for _, v := range append([]string{version}, versions...) {
		if !spoken(v) && !slices.Contains(old, v) {
			return fmt.Errorf("cniVersion %s is not among %s, which this release speaks: a newer one is needed",
				v, strings.Join(ours, ", "))
		}
	}
	if spoken(version) || version == "" && slices.ContainsFunc(versions, spoken) {
		return nil
	}
	return fmt.Errorf("cniVersion is %q, must be %s or newer for a plugin to be chained", version, ours[0])
}

// with returns the text with e in it, the very same if it is there.
func (l *list) with(e *entry.Entry) ([]byte, error) {
	want, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	ours := l.ours()
	// Behind us others may have chained themselves: we stay where we are.
	if len(ours) == 1 && ours[0] > 0 {
		p := l.plugins[ours[0]]
		if equal(l.text[p.start:p.end], want) {
			return l.text, nil
		}
		return splice(l.text, p.start, p.end, l.render(ours[0], want)), nil
	}
	if len(ours) > 0 {
		text, err := l.without()
		if err != nil {
			return nil, err
		}
		if l, err = parseList(text); err != nil {
			return nil, err
		}
	}
	last := len(l.plugins) - 1
	if last < 0 {
		return nil, errors.New("it has no plugin that makes a network")
	}
	at := l.plugins[last].end
	return splice(l.text, at, at, slices.Concat([]byte(","), l.space(last), l.render(last, want))), nil
}

// without returns the text without our elements.
func (l *list) without() ([]byte, error) {
	for {
		ours := l.ours()
		if len(ours) == 0 {
			return l.text, nil
		}
		i := ours[0]
		start, end := l.plugins[i].start, l.plugins[i].end
		switch {
		case i > 0:
			start = l.plugins[i-1].end // with the comma before it
		case len(l.plugins) > 1:
			end = l.plugins[1].start
		}
		next, err := parseList(splice(l.text, start, end, nil))
		if err != nil {
			return nil, err
		}
		l = next
	}
}

// space is the white space before a plugin.
func (l *list) space(i int) []byte {
	from := l.open
	if i > 0 {
		from = l.plugins[i-1].end
	}
	between := l.text[from:l.plugins[i].start]
	return between[bytes.IndexByte(between, ',')+1:] // -1 where there is no comma
}

// render lays our element out like its neighbour i: on lines of its own if that is.
func (l *list) render(i int, compact []byte) []byte {
	space := l.space(i)
	line := bytes.LastIndexByte(space, '\n')
	text := l.text[l.plugins[i].start:l.plugins[i].end]
	inner := bytes.IndexByte(text, '\n')
	if line < 0 || inner < 0 {
		return compact
	}
	prefix := string(space[line+1:])
	step := text[inner+1:]
	step = step[:len(step)-len(bytes.TrimLeft(step, " \t"))]
	indent, deeper := strings.CutPrefix(string(step), prefix)
	if !deeper || indent == "" {
		indent = "  "
	}
	var out bytes.Buffer
	if err := json.Indent(&out, compact, prefix, indent); err != nil {
		return compact
	}
	return out.Bytes()
}

// splice returns text with a part of it replaced.
func splice(text []byte, start, end int, by []byte) []byte {
	return slices.Concat(text[:start], by, text[end:])
}

// equal compares two JSON texts by what they mean.
func equal(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}
