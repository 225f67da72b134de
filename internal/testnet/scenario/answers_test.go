package scenario

import (
	"fmt"
	"maps"

	"github.com/dubway/dubway/internal/testnet/dubbotest"
)

// answers: the consumer gets the attachments that the route makes of the provider's, and
// the values as they were; one that reads no attachments of answers gets none.
func (p *policyRun) answers() {
	p.ask("v1:10 v2:10", callsOf{}, "echo", 20)
	for range 4 {
		r := p.ask("", callsOf{Value: true}, "found", 1)
		provider := map[string]string{"v1": "provider-1", "v2": "provider-2"}[r.Attachments["provider"]]
		want := map[string]string{
			"dubbo": "2.0.2", "provider": r.Attachments["provider"], "served-by": "shop/" + provider, "called": "found",
		}
		if provider == "" || !maps.Equal(r.Attachments, want) {
			p.t.Errorf("the consumer got %v, want %v", r.Attachments, want)
		}
	}
	for version, kind := range map[string]byte{"2.0.2": 4, "2.0.0": 1} {
		r := p.ask("", callsOf{Value: true, Request: dubbotest.Request{Dubbo: version}}, "bare", 1)
		if r.Kind != kind || r.Said != "0" || len(r.Attachments) != map[byte]int{4: 2}[kind] {
			p.t.Errorf("a consumer of %s got %q, kind %d, with %v", version, r.Said, r.Kind, r.Attachments)
		}
	}
	p.counted("dubway_edited_answers_total{", 25, `result="edited"`)
	p.counted("dubway_edited_answers_total{", 1, `result="unattached"`)
	p.counted("istio_requests_total{", 4, `reporter="source"`, `dubbo_method="found"`, `dubbo_result="value"`)
	p.lines(4, `"dubbo_method":"found"`, fmt.Sprintf(`"response_flags":%q`, "-"))
}
