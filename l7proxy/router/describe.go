package router

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/dubway/dubway/l7proxy/condition"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Describe says in words what a route matches, for operators.
func Describe(want *snapshot.Match) string {
	var parts []string
	if want.Path != "" || want.PathKind != snapshot.PathPrefix || len(want.Headers) == 0 {
		parts = append(parts, describePath(want))
	}
	for i := range want.Headers {
		parts = append(parts, describeHeader(&want.Headers[i]))
	}
	if want.Fraction < million {
		parts = append(parts, percent(float64(want.Fraction)/million*100)+" of them")
	}
	return strings.Join(parts, ", ")
}

func describePath(want *snapshot.Match) string {
	s := ":path "
	switch want.PathKind {
	case snapshot.PathPrefix:
		s += "starts with " + strconv.Quote(want.Path)
	case snapshot.PathExact:
		s += "is " + strconv.Quote(want.Path)
	case snapshot.PathRegex:
		s += "is like " + strconv.Quote(want.Path)
	case snapshot.PathSeparatedPrefix:
		s += "is " + strconv.Quote(want.Path) + " or below"
	}
	if want.IgnoreCase && want.PathKind != snapshot.PathRegex {
		s += " in any case"
	}
	return s
}

func describeHeader(want *snapshot.HeaderMatch) string {
	s := describeSource(want) + " "
	if want.Invert {
		s += "not: "
	}
	if want.Longer {
		return s + describeWildcard(want)
	}
	switch want.Kind {
	case snapshot.HeaderExact:
		s += "is " + strconv.Quote(want.Value)
	case snapshot.HeaderPrefix:
		s += "starts with " + strconv.Quote(want.Value)
	case snapshot.HeaderSuffix:
		s += "ends with " + strconv.Quote(want.Value)
	case snapshot.HeaderContains:
		s += "contains " + strconv.Quote(want.Value)
	case snapshot.HeaderRegex:
		s += "is like " + strconv.Quote(want.Value)
	case snapshot.HeaderRange:
		s += fmt.Sprintf("is a number from %d to below %d", want.Min, want.Max)
	case snapshot.HeaderPresent:
		if s += "is present"; !want.Want {
			s = strings.TrimSuffix(s, "present") + "absent"
		}
	}
	if want.IgnoreCase && want.Kind <= snapshot.HeaderContains {
		s += " in any case"
	}
	if want.TreatMissingAsEmpty {
		s += " (missing counts as empty)"
	}
	return s
}

func describeSource(want *snapshot.HeaderMatch) string {
	switch want.Source {
	case snapshot.SourceName:
		return want.Name
	case snapshot.SourceAttachment:
		return "attachment " + want.Name
	case snapshot.SourceArgument:
		return fmt.Sprintf("argument %d", want.Index)
	}
	return ""
}

// describeWildcard writes "prefix*", "*suffix" and "*".
func describeWildcard(want *snapshot.HeaderMatch) string {
	switch {
	case want.Value == "":
		return "is there"
	case want.Kind == snapshot.HeaderSuffix:
		return "is *" + want.Value
	}
	return "is " + want.Value + "*"
}

// because says why a route does not match.
func (m *matcher) because(want *snapshot.Match, why miss) string {
	switch why {
	case matches:
		return Describe(want)
	case missPath:
		return "needs: " + describePath(want) + "; is: " + quote(m.values.Path())
	case missUnread:
		return "needs: what is in the body, which cannot be decoded"
	}
	h := &want.Headers[why]
	value, ok := m.values.Value(h)
	if !ok {
		return "needs: " + describeHeader(h) + "; is missing"
	}
	return "needs: " + describeHeader(h) + "; is: " + quote(&value)
}

func quote(t *condition.Text) string { return strconv.Quote(t.String()) }

// percent writes a share with as many digits as it has.
func percent(p float64) string { return strconv.FormatFloat(p, 'g', 6, 64) + " %" }
