package main

import (
	"context"
	"fmt"
	"sync"

	"dubbo.apache.org/dubbo-go/v3/common/extension"
	"dubbo.apache.org/dubbo-go/v3/filter"
	"dubbo.apache.org/dubbo-go/v3/protocol/base"
	"dubbo.apache.org/dubbo-go/v3/protocol/result"
)

// answered is a consumer's filter, and its name: it keeps the attachments of the last
// answer, which dubbo-go shows to nobody else.
const answered = "answered"

type keeper struct {
	mu   sync.Mutex
	last map[string]any
}

// kept is what all filters of the name keep.
var kept = &keeper{}

func (k *keeper) Invoke(ctx context.Context, to base.Invoker, call base.Invocation) result.Result {
	return to.Invoke(ctx, call)
}

func (k *keeper) OnResponse(_ context.Context, r result.Result, _ base.Invoker, _ base.Invocation) result.Result {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last = r.Attachments()
	return r
}

// register makes the filter known to dubbo-go.
func (k *keeper) register() {
	extension.SetFilter(answered, func() filter.Filter { return k })
}

// answered tells what a provider's answer has beside its value.
func (c *checks) answered(ctx context.Context) (string, error) {
	if _, err := equal(c.job["name"])(c.probe().Who(ctx)); err != nil {
		return "", err
	}
	kept.mu.Lock()
	defer kept.mu.Unlock()
	return fmt.Sprint(kept.last), nil
}
