DELETE FROM sales.orders WHERE amount = 0;
INSERT INTO sales.archive SELECT * FROM sales.orders;
