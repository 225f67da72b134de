package dubbo

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	oracle "github.com/apache/dubbo-go-hessian2"
	"github.com/apache/dubbo-go-hessian2/java_exception"

	"github.com/dubway/dubway/l7proxy/codec/edit"
)

// sold is a Java object to the oracle.
type sold struct {
	Name  string
	Parts []*sold
	When  time.Time
}

func (sold) JavaClassName() string { return "org.example.Sold" }

// TestAnswerEditsByOracle: what another implementation writes as an answer it reads
// after the edits, the value as it was and the attachments as edited.
func TestAnswerEditsByOracle(t *testing.T) {
	oracle.RegisterPOJO(&sold{})
	part := &sold{Name: "part 😀", When: time.UnixMilli(1_700_000_000_123)}
	values := map[string]any{
		"string": "äö😀", "number": int32(7), "list": []any{int32(1), "two", nil}, "map": map[any]any{"k": []any{int32(1)}},
		"object": &sold{Name: "whole", Parts: []*sold{part, part}}, "exception": java_exception.NewRuntimeException("boom"), "bytes": []byte{1, 2, 3},
	}
	changes := []edit.Edit{{Name: "by", Value: "mesh 😀"}, {Name: "gone", How: edit.Remove}, {Name: "stays", Value: "2", How: edit.Append}}
	for name, value := range values {
		for _, kind := range []int32{answerValue, answerValueAttachments} {
			t.Run(fmt.Sprint(name, kind), func(t *testing.T) {
				before := map[any]any{"gone": "x", "stays": "1", "object": part}
				want := map[any]any{"by": "mesh 😀", "stays": "2"}
				parts := []any{kind, value}
				if kind == answerValueAttachments {
					parts = append(parts, before)
					want["stays"], want["object"] = "1,2", part
				}
				encoder := oracle.NewEncoder()
				for _, part := range parts {
					if err := encoder.Encode(part); err != nil {
						t.Fatal(err)
					}
				}
				frame := seal(append(appendHeader(nil, Hessian2, StatusOK, 7), encoder.Buffer()...), 0)
				got, err := edited(t, frame, true, changes)
				if err != nil {
					t.Fatal(err)
				}
				plain := oracle.NewDecoder(frame[HeaderLen:])
				decoder := oracle.NewDecoder(got[HeaderLen:])
				if k, err := decoder.Decode(); k != int32(answerValueAttachments) || err != nil {
					t.Fatalf("kind %v, %v", k, err)
				}
				_, _ = plain.Decode()
				same, _ := plain.Decode()
				after, err := decoder.Decode()
				if err != nil || !reflect.DeepEqual(after, same) {
					t.Errorf("the value is %#v, %v; was %#v", after, err, same)
				}
				if have, err := decoder.Decode(); err != nil || !reflect.DeepEqual(have, want) {
					t.Errorf("the attachments are %#v, %v; want %#v", have, err, want)
				}
			})
		}
	}
}
