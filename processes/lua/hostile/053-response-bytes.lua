-- must: answer ��A��
return "\255\xc3A\xed\xa0"
