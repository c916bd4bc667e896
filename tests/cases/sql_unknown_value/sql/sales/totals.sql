SELECT :daay AS day, :item AS item
