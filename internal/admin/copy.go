package admin

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// Copy writes an answer to w while it comes, however large it is and however long it takes.
func (c *Client) Copy(ctx context.Context, path string, w io.Writer) error {
	get, err := http.NewRequestWithContext(ctx, http.MethodGet, origin+path, http.NoBody)
	if err != nil {
		return fmt.Errorf("make request for %s: %w", path, err)
	}
	// The same connection pool, without the time limit of short answers.
	response, err := (&http.Client{Transport: c.http.Transport}).Do(get)
	if err != nil {
		return c.explain(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return c.refused(path, response)
	}
	if _, err := io.Copy(w, response.Body); err != nil {
		return fmt.Errorf("read %s from %s: %w", path, c.socket, err)
	}
	return nil
}
