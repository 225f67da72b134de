// Package identities makes a table of the identities that the proxy proves, or cannot
// prove. The proxy tells; here it becomes words.
package identities

import (
	"time"

	"github.com/dubway/dubway/internal/admin"
)

// Rows are the rows of the table, of which the first is the heading; none where there are
// no identities.
func Rows(all []admin.Identity) [][]any {
	if len(all) == 0 {
		return nil
	}
	rows := [][]any{{"IDENTITY", "PODS", "EXPIRES", "RENEWED", "CONTROL PLANE BY", "STATE"}}
	for i := range all {
		one := &all[i]
		name, state := one.ID, one.Error
		if name == "" {
			name = one.Namespace + "/" + one.ServiceAccount
		}
		switch {
		case state != "":
		case one.Expires == nil:
			state = "being asked for"
		default:
			state = "ok"
		}
		rows = append(rows, []any{name, one.Pods, date(one.Expires), date(one.Renewed), dash(one.ControlPlane), state})
	}
	return rows
}

func date(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Format(time.RFC3339)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
