INSERT INTO sales.totals SELECT 1 AS one
