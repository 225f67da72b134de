package l7proxy

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy/xds/dump"
)

var errNoDump = errors.New("the control plane is asked for no view yet")

// dumped is what the proxy holds of the mesh: of the view of a pod, or of all.
func (p *Proxy) dumped(pod string) ([]dump.View, error) {
	uid := ""
	if pod != "" {
		if uid = p.pod(pod); uid == "" {
			return nil, fmt.Errorf("no enrolled workload is called %q", pod)
		}
	}
	certificates := p.identities.List()
	if p.control == nil {
		held, ok := p.source.(files)
		if !ok {
			return nil, errNoDump
		}
		return []dump.View{{Held: held.Held(), Rejected: held.Rejections(), Secrets: secrets(certificates, nil)}}, nil
	}
	var list []dump.View
	for _, v := range p.control.Views() {
		if uid != "" && !slices.Contains(v.Pods, uid) {
			continue
		}
		list = append(list, dump.View{
			Key: v.Key, Node: v.Node, Held: v.Store.Held(), Rejected: v.Store.Rejections(),
			Secrets: secrets(certificates, func(i *admin.Identity) bool { return p.runsAs(v.Pods, i) }),
		})
	}
	if len(list) == 0 {
		return nil, errNoDump
	}
	return list, nil
}

// runsAs tells whether one of some pods runs as an account.
func (p *Proxy) runsAs(pods []string, i *admin.Identity) bool {
	return slices.ContainsFunc(pods, func(uid string) bool {
		w := p.workloads.ByUID(uid)
		return w != nil && w.Namespace == i.Namespace && w.ServiceAccount == i.ServiceAccount
	})
}

// secrets are the certificates of the accounts that are meant; nil means all.
func secrets(all []admin.Identity, meant func(*admin.Identity) bool) (list []dump.Secret) {
	for i := range all {
		one := &all[i]
		if one.ID == "" || meant != nil && !meant(one) {
			continue
		}
		s := dump.Secret{Name: one.ID}
		if one.Expires != nil {
			s.Version = "until " + one.Expires.UTC().Format(time.RFC3339)
		}
		list = append(list, s)
	}
	return list
}
