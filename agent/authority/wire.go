package authority

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
	securityv1alpha1 "istio.io/api/security/v1alpha1"
)

// maxAnswer bounds a chain with its roots, in bytes: it is to fit into a message to the
// proxy.
const maxAnswer = 64 << 10

// ask makes one connection for one question: there are a few in twelve hours, and a
// renewed root or a restarted istiod need no thought.
func (c *Client) ask(ctx context.Context, q Question, id string) ([]string, error) {
	secure, err := c.secure()
	if err != nil {
		return nil, err
	}
	token, err := os.ReadFile(c.opts.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("read token: %w; fix: mount a projected service account token with audience istio-ca", err)
	}
	said, err := structpb.NewStruct(map[string]any{"ImpersonatedIdentity": id})
	if err != nil {
		return nil, fmt.Errorf("name identity: %w", err)
	}
	conn, err := grpc.NewClient("passthrough:///"+c.opts.Address,
		grpc.WithTransportCredentials(secure), grpc.WithContextDialer(dial),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
		grpc.WithNoProxy(), grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(),
	)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	defer func() { _ = conn.Close() }()
	ctx = metadata.AppendToOutgoingContext(ctx,
		"authorization", "Bearer "+strings.TrimSpace(string(token)), "clusterid", c.opts.ClusterID)
	answer, err := securityv1alpha1.NewIstioCertificateServiceClient(conn).CreateCertificate(ctx,
		&securityv1alpha1.IstioCertificateRequest{
			Csr:              string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: q.Request})),
			ValidityDuration: int64(q.Validity / time.Second), Metadata: said,
		})
	if err != nil {
		return nil, err //nolint:wrapcheck // a status: Sign says what was asked of whom
	}
	return answer.GetCertChain(), nil
}

// secure is what istiod is believed by.
func (c *Client) secure() (credentials.TransportCredentials, error) {
	text, err := os.ReadFile(c.opts.RootFile)
	if err != nil {
		return nil, fmt.Errorf("read root certificate: %w; fix: mount the ConfigMap istio-ca-root-cert", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("read root certificate: %s holds none", c.opts.RootFile)
	}
	return credentials.NewTLS(&tls.Config{
		RootCAs: roots, ServerName: c.opts.ServerName, MinVersion: tls.VersionTLS12,
	}), nil
}

func dial(ctx context.Context, address string) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: tryTime}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	return c, nil
}

// passing tells whether the next try may go better. istiod says Unauthenticated of every
// impersonation that it refuses: also of a pod that it does not know yet.
func passing(err error) bool {
	if errors.Is(err, errForeign) {
		return false
	}
	switch status.Code(err) {
	case codes.Unauthenticated, codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Internal, codes.Aborted:
		return true
	default:
		return false
	}
}

// remedy is what an operator can do.
func remedy(err error) string {
	switch status.Code(err) {
	case codes.Unauthenticated:
		return "; fix: name the agent's namespace/account in istiod's CA_TRUSTED_NODE_ACCOUNTS, have its token projected " +
			"with audience istio-ca, and see that --cluster-id is istiod's; istiod's log has the reason"
	case codes.Unimplemented:
		return "; fix: name istiod's secured port in --ca-address, 15012"
	case codes.Unavailable, codes.DeadlineExceeded:
		return "; fix: see that it runs, that --ca-address is its, and --ca-server-name and --ca-root-file its certificate's"
	default:
		return ""
	}
}
